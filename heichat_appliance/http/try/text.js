// What the page says, in German and English.

const TEXTS = {
  title: ["{0} ausprobieren", "Try {0}"],
  tryOut: ["Ausprobieren", "Try it out"],
  honest: [
    "Diese Seite ist zum Ausprobieren da und kann keine Verschlüsselung. Für den Alltag gibt es Element.",
    "This page is for trying things out and knows no encryption. For every day there is Element.",
  ],
  language: ["Sprache", "Language"],
  signInHeading: ["Als wen möchten Sie heiCHAT ausprobieren?", "Who would you like to be?"],
  signInHow: [
    "Das sind die Personen der Demo. Ein Klick meldet Sie an. Öffnen Sie die Seite in einem zweiten Tab, um dort jemand anderes zu sein.",
    "These are the people of the demo. One click logs you in. Open this page in a second tab to be somebody else there.",
  ],
  signInOther: ["Mit Uni-ID und Passwort anmelden", "Log in with Uni-ID and password"],
  uniId: ["Uni-ID", "Uni-ID"],
  password: ["Passwort", "Password"],
  signIn: ["Anmelden", "Log in"],
  signingIn: ["Anmeldung läuft …", "Logging in …"],
  signOut: ["Abmelden", "Log out"],
  signedInAs: ["Angemeldet als {0}", "Logged in as {0}"],
  sessionGone: [
    "Ihre Anmeldung gilt nicht mehr. Bitte melden Sie sich neu an.",
    "Your login has ended. Please log in again.",
  ],
  wrongPassword: ["Uni-ID oder Passwort stimmen nicht.", "The Uni-ID or the password is wrong."],
  noServer: [
    "Der Server antwortet nicht. Läuft die Demo noch?",
    "The server does not answer. Is the demo still running?",
  ],
  offline: ["Keine Verbindung zum Server. Es wird weiter versucht …", "No connection to the server. Trying again …"],
  online: ["Die Verbindung ist wieder da.", "The connection is back."],
  loading: ["Wird geladen …", "Loading …"],
  secondTab: ["In neuem Tab jemand anderes sein", "Be somebody else in a new tab"],
  role_student: ["studiert", "student"],
  role_lecturer: ["lehrt", "lecturer"],
  "role_doctoral candidate": ["promoviert", "doctoral candidate"],
  role_staff: ["beschäftigt", "staff"],
  role_administrator: ["Administration", "administrator"],

  rooms: ["Gespräche", "Conversations"],
  noRooms: ["Noch keine Gespräche.", "No conversations yet."],
  newDirect: ["Person anschreiben", "Message a person"],
  newRoom: ["Neuer Raum", "New room"],
  invitedBy: ["{0} lädt Sie ein", "{0} invites you"],
  accept: ["Annehmen", "Accept"],
  decline: ["Ablehnen", "Decline"],
  acceptRoom: ["Einladung zu „{0}“ annehmen", "Accept the invitation to “{0}”"],
  declineRoom: ["Einladung zu „{0}“ ablehnen", "Decline the invitation to “{0}”"],
  unread: ["{0} ungelesen", "{0} unread"],
  emptyRoom: ["Leerer Raum", "Empty room"],
  andOthers: ["{0} und andere", "{0} and others"],
  and: ["{0} und {1}", "{0} and {1}"],

  welcome: ["Willkommen, {0}!", "Welcome, {0}!"],
  welcomeSteps: ["So geht es los:", "How to begin:"],
  step1: [
    "Nehmen Sie die Einladung „Server Notices“ an. Dort steht der Link zu den Nutzungsbedingungen; stimmen Sie ihnen zu.",
    "Accept the invitation “Server Notices”. It holds the link to the terms of use; agree to them.",
  ],
  step2: ["Schreiben Sie jemanden an, oder legen Sie einen Raum an.", "Message somebody, or create a room."],
  step3: [
    "Öffnen Sie einen zweiten Tab, melden Sie sich dort als diese Person an, und antworten Sie sich.",
    "Open a second tab, log in there as that person, and answer yourself.",
  ],

  back: ["Zurück zu den Gesprächen", "Back to the conversations"],
  people: ["{0} Personen", "{0} people"],
  person: ["1 Person", "1 person"],
  noticeRoom: ["Mitteilungen des Dienstes", "Messages from the service"],
  invite: ["Einladen", "Invite"],
  leave: ["Verlassen", "Leave"],
  older: ["Ältere Nachrichten zeigen", "Show older messages"],
  beginning: ["Hier beginnt das Gespräch.", "This is where the conversation begins."],
  toNewest: ["Neue Nachrichten ↓", "New messages ↓"],
  timeline: ["Nachrichten", "Messages"],
  write: ["Nachricht schreiben", "Write a message"],
  send: ["Senden", "Send"],
  onlyService: ["Hier schreibt nur der Dienst.", "Only the service writes here."],
  mayNotWrite: ["In diesem Raum dürfen Sie nicht schreiben.", "You may not write in this room."],
  encryptedRoom: [
    "Dieser Raum ist Ende-zu-Ende-verschlüsselt. Diese Seite kann das nicht: Bitte lesen und schreiben Sie hier mit Element.",
    "This room is end-to-end encrypted. This page can't do that: please use Element to read and write here.",
  ],
  encryptedMessage: ["Verschlüsselt; lesbar in Element", "Encrypted; readable in Element"],
  deleted: ["Nachricht gelöscht", "Message deleted"],
  unknown: ["Etwas, das diese Seite nicht zeigen kann", "Something that this page can't show"],
  edited: ["bearbeitet", "edited"],
  sending: ["wird gesendet …", "sending …"],
  waiting: ["wartet auf die Verbindung …", "waiting for the connection …"],
  failed: ["Nicht gesendet: {0}", "Not sent: {0}"],
  notAgreed: ["erst den Nutzungsbedingungen zustimmen", "agree to the terms of use first"],
  retry: ["Noch einmal senden", "Send again"],
  discard: ["Verwerfen", "Discard"],
  typing1: ["{0} schreibt …", "{0} is typing …"],
  typing2: ["{0} und {1} schreiben …", "{0} and {1} are typing …"],
  typingMany: ["Mehrere schreiben …", "Several people are typing …"],
  readBy: ["Gelesen von {0}", "Read by {0}"],
  react: ["Mit {0} reagieren", "React with {0}"],
  reacted: ["{0}: {1}", "{0}: {1}"],
  delete: ["Löschen", "Delete"],
  deleteMessage: ["Diese Nachricht löschen", "Delete this message"],
  deleteQuestion: ["Diese Nachricht für alle löschen?", "Delete this message for everybody?"],
  imageLost: ["Das Bild {0} lässt sich nicht laden", "The image {0} can't be loaded"],
  image: ["Bild: {0}", "Image: {0}"],
  download: ["{0} herunterladen", "Download {0}"],
  you: ["Sie", "You"],

  made: ["{0} hat den Raum angelegt", "{0} created the room"],
  named: ["{0} hat den Raum „{1}“ genannt", "{0} named the room “{1}”"],
  unnamed: ["{0} hat den Namen des Raums entfernt", "{0} removed the room's name"],
  topicSet: ["{0} hat das Thema gesetzt: {1}", "{0} set the topic: {1}"],
  encrypted: ["{0} hat die Verschlüsselung eingeschaltet", "{0} switched encryption on"],
  replaced: ["{0} hat den Raum durch einen neuen ersetzt", "{0} replaced the room by a new one"],
  invited: ["{0} hat {1} eingeladen", "{0} invited {1}"],
  joined: ["{0} ist dabei", "{0} joined"],
  left: ["{0} hat den Raum verlassen", "{0} left the room"],
  rejected: ["{0} hat die Einladung abgelehnt", "{0} declined the invitation"],
  withdrawn: ["{0} hat die Einladung an {1} zurückgezogen", "{0} withdrew the invitation to {1}"],
  kicked: ["{0} hat {1} entfernt", "{0} removed {1}"],
  banned: ["{0} hat {1} gesperrt", "{0} banned {1}"],
  unbanned: ["{0} hat die Sperre von {1} aufgehoben", "{0} lifted the ban on {1}"],
  knocked: ["{0} möchte hereingelassen werden", "{0} asks to be let in"],
  renamed: ["{0} heißt jetzt {1}", "{0} is now called {1}"],

  cancel: ["Abbrechen", "Cancel"],
  close: ["Schließen", "Close"],
  create: ["Anlegen", "Create"],
  roomName: ["Name des Raums", "Name of the room"],
  roomHint: [
    "Räume sind geschlossen: Herein kommt nur, wen Sie einladen.",
    "Rooms are closed: only those you invite get in.",
  ],
  inviteTo: ["Zu „{0}“ einladen", "Invite to “{0}”"],
  findPerson: ["Name oder Uni-ID", "Name or Uni-ID"],
  findHint: ["Mindestens zwei Zeichen, zum Beispiel „bo“.", "At least two characters, for example “bo”."],
  nobody: ["Niemand gefunden.", "Nobody found."],
  found: ["{0} gefunden", "{0} found"],
  inviteDone: ["{0} ist eingeladen.", "{0} has been invited."],
  alreadyIn: ["ist schon dabei", "is in the room already"],
  removed: ["Sie gehören nicht mehr zu „{0}“.", "You are no longer in “{0}”."],
  leaveQuestion: [
    "„{0}“ verlassen? Zurück kommen Sie nur mit einer neuen Einladung.",
    "Leave “{0}”? You can come back only with a new invitation.",
  ],
  consentHeading: ["Erst die Nutzungsbedingungen", "The terms of use first"],
  consentText: [
    "Bevor Sie schreiben und Räume anlegen, stimmen Sie bitte den Nutzungsbedingungen zu. Die Seite öffnet sich in einem neuen Tab; danach geht es hier weiter.",
    "Before you write and create rooms, please agree to the terms of use. The page opens in a new tab; afterwards you go on here.",
  ],
  consentOpen: ["Nutzungsbedingungen öffnen", "Open the terms of use"],
  consentDone: ["Ich habe zugestimmt, weiter", "I have agreed, go on"],
  consentNotYet: ["Die Zustimmung ist noch nicht angekommen.", "The agreement has not arrived yet."],
  notPossible: ["Das hat nicht geklappt: {0}", "That did not work: {0}"],
  today: ["Heute", "Today"],
  yesterday: ["Gestern", "Yesterday"],
};

const KEY = "heichat.try.language";
const PLACES = ["de", "en"];

let language =
  PLACES.find((one) => one === localStorage.getItem(KEY)) ?? (navigator.language.startsWith("de") ? "de" : "en");

/** `de` or `en`. */
export const currentLanguage = () => language;

export function setLanguage(chosen) {
  language = chosen;
  localStorage.setItem(KEY, chosen);
}

/** The text of that name, with `values` for {0}, {1}. */
export function t(name, ...values) {
  return TEXTS[name][PLACES.indexOf(language)].replace(/\{(\d)\}/g, (_, index) => values[index]);
}

/** What somebody is at the university. */
export const roleName = (role) => (`role_${role}` in TEXTS ? t(`role_${role}`) : role);

/** How numbers are written: as the browser says, if that is in the language of the page. */
const locale = () => (navigator.language.startsWith(language) ? navigator.language : language);

export const clockTime = (ms) => new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit" }).format(ms);

/** "Today", "Yesterday", or the date. */
export const dayName = (ms) =>
  near(ms, t("today")) ?? new Intl.DateTimeFormat(locale(), { dateStyle: "full" }).format(ms);

/** The same in a few letters: of today the time. */
export const shortTime = (ms) =>
  near(ms, clockTime(ms)) ?? new Intl.DateTimeFormat(locale(), { dateStyle: "short" }).format(ms);

function near(ms, today) {
  const day = new Date(ms).toDateString();
  const yesterday = new Date();
  yesterday.setDate(yesterday.getDate() - 1);
  return { [yesterday.toDateString()]: t("yesterday"), [new Date().toDateString()]: today }[day];
}
