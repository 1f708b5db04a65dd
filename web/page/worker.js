// Trains in a thread of its own, so that nothing ever holds up the page. Requests are answered between two steps.
import init, { Session } from "./kiln_web.js";

let session = null;
let running = false;
let pixels = null;
let fresh = false;
const requests = [];
let wake = null;

self.onmessage = (event) => {
  requests.push(event.data);
  if (wake) wake();
  wake = null;
};

const tell = (kind, content) => self.postMessage({ kind, ...content });

// Lets messages in without the pause that a timer would make.
const channel = new MessageChannel();
let resume = null;
channel.port1.onmessage = () => resume();
const breathe = () => new Promise((done) => { resume = done; channel.port2.postMessage(0); });

let batch = { known: [], began: 0, busy: 0, steps: 0 };
let shown = { answer: 0, filters: 0, epoch: -1 };

// A step; tells the page of all steps when it is time to.
async function advance() {
  const began = performance.now();
  const report = JSON.parse(await session.step());
  batch.busy += performance.now() - began;
  batch.steps += 1;
  batch.known.push(...report.known);
  const now = performance.now();
  if (now - batch.began > 60) {
    tell("progress", { report: { ...report, known: batch.known }, milliseconds: batch.busy / batch.steps, difference: session.difference() });
    batch = { known: [], began: now, busy: 0, steps: 0 };
  }
  if (now - shown.answer > 90 || fresh) await answer(now);
  if (now - shown.filters > 400) await filters(now);
  if (report.epoch !== shown.epoch) {
    shown.epoch = report.epoch;
    if (report.epoch > 0) await evaluate();
  }
}

async function answer(now) {
  shown.answer = now;
  fresh = false;
  if (pixels) tell("answer", { shares: await session.predict(pixels) });
}

async function filters(now) {
  shown.filters = now;
  tell("filters", { values: await session.filters() });
}

const evaluate = async () => tell("evaluated", JSON.parse(await session.evaluate()));

// What belongs to a network that has just been made, or loaded.
async function show() {
  shown = { answer: 0, filters: 0, epoch: -1 };
  batch = { known: [], began: 0, busy: 0, steps: 0 };
  tell("described", { session: JSON.parse(session.describe()) });
  await filters(performance.now());
  await answer(performance.now());
}

const actions = {
  async open({ wanted, settings, wasm }) {
    await init({ module_or_path: wasm });
    session = await Session.open(wanted, settings);
    await show();
    tell("opened", {});
  },
  async start() { running = true; tell("running", { running }); },
  async pause() {
    running = false;
    const report = JSON.parse(await session.settle());
    tell("progress", { report: { ...report, known: [...batch.known, ...report.known] }, milliseconds: null, difference: session.difference() });
    batch = { known: [], began: 0, busy: 0, steps: 0 };
    tell("running", { running });
    if (report.steps > 0) await evaluate();
  },
  async step() { await advance(); await actions.pause(); },
  async restart({ settings }) { session.restart(settings); await show(); tell("restarted", {}); },
  async data({ files }) { session.take(...files); pixels = null; await show(); tell("replaced", {}); },
  async rate({ lr }) { session?.set_rate(lr); },
  async draw({ image }) {
    pixels = image;
    fresh = true;
    if (!running && session) await answer(performance.now());
  },
  async example() {
    const [label, ...image] = session.example(Math.floor(Math.random() * 1e6));
    tell("example", { label, image: new Float32Array(image) });
  },
  async save() { tell("saved", { bytes: await session.save() }); },
  async load({ bytes }) { session.load(bytes); await show(); await evaluate(); },
  async lose() { session.lose(); await advance(); },
};

for (;;) {
  try {
    while (requests.length > 0) {
      const request = requests.shift();
      await actions[request.kind](request);
    }
    if (running && session) {
      await advance();
      await breathe();
    } else {
      await new Promise((done) => { wake = done; if (requests.length > 0) done(); });
    }
  } catch (error) {
    running = false;
    tell("failed", { message: String(error?.message ?? error), opened: session !== null });
    tell("running", { running });
  }
}
