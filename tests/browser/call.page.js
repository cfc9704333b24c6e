// One side of a call, in the browser: what tests/browser/call.mjs does with `globalThis.person`.

import * as sdk from "./sdk.js";

const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => silent };

/** Look again until `find` finds something. */
async function until(what, find, seconds = 20) {
    for (const end = Date.now() + seconds * 1000; ; ) {
        const found = await find();
        if (found) return found;
        if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 20)); // between two questions
    }
}

class Person {
    /** Log in, and sync until the relay of the server is known. All media must go through it. */
    async logIn(baseUrl, uniId) {
        const login = await sdk.createClient({ baseUrl, logger: silent }).loginRequest({
            type: "m.login.password",
            identifier: { type: "m.id.user", user: uniId },
            password: `${uniId}-demo`,
        });
        this.client = sdk.createClient({
            baseUrl,
            userId: login.user_id,
            deviceId: login.device_id,
            accessToken: login.access_token,
            forceTURN: true,
            useE2eForGroupCall: false,
            logger: silent,
        });
        await this.client.initRustCrypto({ useIndexedDB: false });
        this.client.on("Call.incoming", (call) => this.take(call));
        await this.client.startClient({ initialSyncLimit: 10 });
        const [relay] = await until("the relay", () => this.client.getTurnServers().length && this.client.getTurnServers());
        return { userId: login.user_id, uris: relay.urls };
    }

    async createRoom(invited, encrypted) {
        const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
        const room = await this.client.createRoom({
            preset: "trusted_private_chat",
            is_direct: true,
            invite: [invited],
            initial_state: encrypted ? [encryption] : [],
        });
        return room.room_id;
    }

    async join(roomId) {
        await this.client.joinRoom(roomId);
    }

    async members(roomId, count) {
        await until(`${count} members`, () => this.client.getRoom(roomId)?.getJoinedMembers().length === count);
    }

    /** The types of the messages in the room, as the server has them. */
    sentInRoom(roomId) {
        const events = this.client.getRoom(roomId).getLiveTimeline().getEvents();
        return [...new Set(events.filter((event) => !event.isState()).map((event) => event.getWireType()))];
    }

    take(call) {
        this.call = call;
        this.states = [];
        this.errors = [];
        call.on("state", (state) => this.states.push(state));
        call.on("error", (error) => this.errors.push(String(error)));
        call.on("feeds_changed", () => this.show());
    }

    async place(roomId) {
        const call = sdk.createNewMatrixCall(this.client, roomId);
        this.take(call);
        await call.placeVideoCall();
    }

    async answer() {
        await until("the ringing", () => this.call?.state === "ringing", 30);
        await this.call.answer(true, true);
    }

    async state(wanted) {
        await until(`the call is ${wanted}, it is ${this.call?.state} ${this.errors}`, () => this.call.state === wanted, 30);
        return this.states;
    }

    show() {
        for (const [id, feed] of [["local", this.call.localUsermediaFeed], ["remote", this.call.remoteUsermediaFeed]]) {
            const video = document.getElementById(id);
            if (feed && video.srcObject !== feed.stream) video.srcObject = feed.stream;
        }
    }

    /** How many of some pictures of the other side differ from the one before, and how colourful the last one is. */
    async movingPictures(wanted) {
        const video = document.getElementById("remote");
        const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
        const paint = canvas.getContext("2d", { willReadFrequently: true });
        let [changes, before] = [0, ""];
        const look = () => {
            if (!video.videoWidth) return false;
            paint.drawImage(video, 0, 0, 64, 48);
            const pixels = paint.getImageData(0, 0, 64, 48).data;
            const now = String(pixels);
            changes += before !== "" && now !== before;
            before = now;
            return changes >= wanted && new Set(pixels).size;
        };
        return until(`${wanted} changes of the picture, ${changes} so far`, look, 30);
    }

    /** Frames and packets of the other side that have come, and the candidates in use. */
    async stats() {
        const report = await this.call.peerConn.getStats();
        const all = [...report.values()];
        const inbound = (kind) => all.find((one) => one.type === "inbound-rtp" && one.kind === kind);
        const transport = all.find((one) => one.type === "transport" && one.selectedCandidatePairId);
        const pair = report.get(transport.selectedCandidatePairId);
        return {
            frames: inbound("video")?.framesDecoded ?? 0,
            sound: inbound("audio")?.totalSamplesReceived ?? 0,
            energy: inbound("audio")?.totalAudioEnergy ?? 0,
            local: report.get(pair.localCandidateId).candidateType,
            protocol: report.get(pair.localCandidateId).relayProtocol,
            remote: report.get(pair.remoteCandidateId).candidateType,
        };
    }

    async moreFramesThan(count) {
        return until(`more frames than ${count}`, async () => {
            const { frames } = await this.stats();
            return frames > count && frames;
        });
    }

    hangUp() {
        this.call.hangup("user_hangup", false);
    }

    /** What is left of the call in the browser: devices that are still on. */
    devicesOn() {
        const tracks = [document.getElementById("local"), document.getElementById("remote")].flatMap(
            (video) => video.srcObject?.getTracks() ?? [],
        );
        return tracks.filter((track) => track.readyState === "live").length;
    }
}

globalThis.person = new Person();
