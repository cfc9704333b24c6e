// A video call between two people in two browsers, with matrix-js-sdk's own calls and media through the relay only.
//
// node call.mjs URL udp|tcp [plain|encrypted] [CHROMIUM OF THE SECOND]     (see driver.py; with the last, two browsers run)

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";
import { bundledSdk } from "../clients/js/bundle.mjs";
import { checked, expectComplaint, FLAGS, journey, open, picture, step } from "./kit.mjs";

const PAGE = "/call-test/";
/** What is complained of though all is well. The 404 is the answer to the question for a key backup. */
const USUAL = /default global \w+ push rule|ignoring stream because we already|\[MatrixRTCSessionManager\]|404 \(Not Found\)/;
const TYPES = { "": "text/html", js: "text/javascript", wasm: "application/wasm" };

/** What the page loads, under the address of the daemon, by name. */
async function files() {
    const here = (name) => readFile(new URL(name, import.meta.url), "utf-8");
    return new Map([["", await here("call.page.html")], ["page.js", await here("call.page.js")], ...(await bundledSdk())]);
}

/** A person in a browser of their own; `do(name, ...arguments)` is a method of the page's `person`. */
async function enter(browser, url, uniId, content) {
    const context = await open(browser, { permissions: ["camera", "microphone"] });
    await context.route(`${url}${PAGE}**`, (route) => {
        const name = new URL(route.request().url()).pathname.slice(PAGE.length);
        const body = content.get(name);
        const contentType = TYPES[name.split(".").at(-1)];
        return route.fulfill(body === undefined ? { status: 404 } : { body, contentType });
    });
    expectComplaint(context, USUAL);
    const page = await context.newPage();
    await page.goto(url + PAGE);
    await page.waitForFunction(() => globalThis.person);
    const act = (name, ...given) => page.evaluate(([method, rest]) => person[method](...rest), [name, given]);
    return { page, do: act, ...(await act("logIn", url, uniId)) };
}

/** Both see moving pictures and hear sound, and nothing goes past the relay. */
async function seeing(people, transport) {
    for (const { page, do: act } of people) {
        const colours = await act("movingPictures", 10);
        assert.ok(colours > 3, `the picture has ${colours} values only`);
        const before = await act("stats");
        await act("moreFramesThan", before.frames + 20);
        const now = await act("stats");
        step(`  ${JSON.stringify(now)}`);
        const { local, remote, protocol, sound, energy } = now;
        assert.deepEqual({ local, remote, protocol }, { local: "relay", remote: "relay", protocol: transport });
        assert.ok(sound > 0 && energy > 0, "no sound");
        await picture(page, `call-${transport}-${people.findIndex((one) => one.page === page)}`);
    }
}

const flags = [
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
    `--unsafely-treat-insecure-origin-as-secure=${process.argv[2]}`, // of an address other than loopback
];

await journey(
    async (browser, url, transport, kind = "plain", other = "") => {
        const content = await files();
        const second = other ? await chromium.launch({ executablePath: other, args: [...FLAGS, ...flags] }) : browser;
        const [alice, bob] = await Promise.all([enter(browser, url, "alice", content), enter(second, url, "bob", content)]);
        assert.ok(alice.uris.every((uri) => uri.endsWith(`?transport=${transport}`)), String(alice.uris));
        const people = [alice, bob];
        const room = await alice.do("createRoom", bob.userId, kind === "encrypted");
        await bob.do("join", room);
        await Promise.all(people.map((one) => one.do("members", room, 2)));

        step("alice calls, bob answers");
        await alice.do("place", room);
        await bob.do("answer");
        await Promise.all(people.map((one) => one.do("state", "connected")));
        await seeing(people, transport);

        step("bob hangs up");
        await bob.do("hangUp");
        for (const one of people) {
            const states = await one.do("state", "ended");
            assert.equal(states.filter((state) => state === "ended").length, 1);
        }
        for (const one of people) assert.equal(await one.do("devicesOn"), 0, "camera or microphone is still on");

        step("the other way round, and alice hangs up");
        await bob.do("place", room);
        await alice.do("answer");
        await Promise.all(people.map((one) => one.do("state", "connected")));
        await seeing(people, transport);
        await alice.do("hangUp");
        await Promise.all(people.map((one) => one.do("state", "ended")));
        const types = await bob.do("sentInRoom", room);
        if (kind === "encrypted") assert.deepEqual(types, ["m.room.encrypted"]);
        else assert.ok(types.includes("m.call.invite") && types.includes("m.call.hangup"), String(types));
        for (const { page } of people) checked(page.context());
        if (other) await second.close();
    },
    { flags },
);
