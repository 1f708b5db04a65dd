// The page: what is seen and touched. Everything that computes is in the worker.
const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const worker = new Worker("worker.js", { type: "module" });
const send = (kind, content = {}, transfer = []) => worker.postMessage({ kind, ...content }, transfer);

const state = { running: false, losses: [], accuracies: [], tests: [], steps: 0, epoch: 0, rates: [], longest: 0 };
// For tests, and for the curious.
window.kiln = state;
state.lose = () => send("lose");

const settings = () => JSON.stringify({
  optimizer: $("optimizer").value, lr: Number($("lr").value), batch: Math.trunc(Number($("batch").value)),
  seed: Math.trunc(Number($("seed").value)), filters: Math.trunc(Number($("filters").value)),
});
const isSound = () => ["lr", "batch", "seed", "filters"].every((id) => $(id).value !== "" && $(id).checkValidity());

// Curves

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

function fit(canvas) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

// A mean over the last steps without the bias of its beginning.
function smooth(values) {
  let mean = 0, weight = 0;
  return values.map((value) => {
    mean = 0.9 * mean + 0.1 * value;
    weight = 0.9 * weight + 0.1;
    return mean / weight;
  });
}

function plot(id, values, points, top, label) {
  const { pen, width, height } = fit($(id));
  const left = 36, bottom = height - 18;
  const count = Math.max(values.length, 20);
  const x = (step) => left + (width - left - 6) * (step / (count - 1));
  const y = (value) => bottom - (bottom - 8) * Math.min(1, Math.max(0, value / top));
  pen.font = "11px system-ui, sans-serif";
  pen.strokeStyle = colour("--line");
  pen.fillStyle = colour("--quiet");
  pen.lineWidth = 1;
  for (const part of [0, 0.5, 1]) {
    pen.beginPath();
    pen.moveTo(left, y(part * top));
    pen.lineTo(width - 6, y(part * top));
    pen.stroke();
    pen.textAlign = "right";
    pen.fillText(label(part * top), left - 5, y(part * top) + 4);
  }
  pen.textAlign = "left";
  pen.fillText("0", left, height - 4);
  pen.textAlign = "right";
  pen.fillText(String(count), width - 6, height - 4);
  const line = (list, alpha, size) => {
    if (list.length < 2) return;
    // No more points than pixels.
    const stride = Math.max(1, Math.floor(list.length / (width * 2)));
    pen.globalAlpha = alpha;
    pen.lineWidth = size;
    pen.strokeStyle = colour("--fire");
    pen.beginPath();
    for (let i = 0; i < list.length; i += stride) pen.lineTo(x(i), y(list[i]));
    pen.stroke();
    pen.globalAlpha = 1;
  };
  line(values, 0.3, 1);
  line(smooth(values), 1, 2);
  pen.fillStyle = colour("--test");
  for (const [step, value] of points) {
    pen.beginPath();
    pen.arc(x(Math.max(0, step - 1)), y(value), 3.5, 0, 7);
    pen.fill();
  }
}

let drawn = false;
function redraw() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => {
    drawn = false;
    const top = Math.max(0.5, Math.ceil(2 * Math.max(...state.losses.slice(0, 400), 0)) / 2);
    plot("loss-plot", state.losses, state.tests.map(({ step, loss }) => [step, loss]), top, (value) => value.toFixed(1));
    plot("accuracy-plot", state.accuracies, state.tests.map(({ step, accuracy }) => [step, accuracy]), 1, (value) => `${Math.round(100 * value)}%`);
    filters();
  });
}

// Filters and small images

function filters() {
  const values = state.filters;
  if (!values) return;
  const { pen, width, height } = fit($("filters-plot"));
  const count = values.length / 9;
  const rows = count > 16 ? 2 : 1;
  const columns = Math.ceil(count / rows);
  const side = Math.max(3, Math.min((width - 4 * columns) / columns, height / rows - 4));
  const most = Math.max(...values.map(Math.abs), 1e-6);
  const [more, less, edge] = ["--fire", "--test", "--line"].map(colour);
  for (let i = 0; i < count; i++) {
    const x = (i % columns) * (side + 4), y = Math.floor(i / columns) * (side + 4);
    for (let k = 0; k < 9; k++) {
      const share = values[9 * i + k] / most;
      pen.fillStyle = share > 0 ? more : less;
      pen.globalAlpha = Math.abs(share);
      pen.fillRect(x + (side / 3) * (k % 3), y + (side / 3) * Math.floor(k / 3), side / 3, side / 3);
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = edge;
    pen.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
  }
}

// Ink on paper, put down as it is: canvases of a graphics card of their own would take longer to make than to fill.
function small(pixels, canvas = document.createElement("canvas")) {
  const side = canvas.width = canvas.height = Math.round(Math.sqrt(pixels.length));
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const image = pen.createImageData(side, side);
  pixels.forEach((value, i) => image.data.set([30, 26, 22].map((ink) => 255 - (255 - ink) * value).concat(255), 4 * i));
  pen.putImageData(image, 0, 0);
  return canvas;
}

// The wrong test images. Canvases take a while to make: each is made once, in a task of its own.
let turn = 0;
async function showWrong(wrong) {
  const [list, own] = [$("wrong"), ++turn];
  while (list.children.length > wrong.length) list.lastChild.remove();
  for (const [place, { guess, label, pixels }] of wrong.entries()) {
    let item = list.children[place];
    if (!item) {
      await new Promise((done) => setTimeout(done));
      if (own !== turn) return;
      item = document.createElement("li");
      const image = document.createElement("canvas");
      image.setAttribute("role", "img");
      item.append(image, "");
      list.append(item);
    }
    small(pixels, item.firstChild).setAttribute("aria-label", `a ${label}, taken for a ${guess}`);
    item.lastChild.data = `${label} as ${guess}`;
  }
}

// Drawing

const canvas = $("canvas");
const ink = canvas.getContext("2d", { willReadFrequently: true });
const pen = { down: false, x: 128, y: 128 };

function clear() {
  ink.clearRect(0, 0, 256, 256);
  send("draw", { image: null });
  for (const bar of $("bars").children) setBar(bar, 0);
  $("answer").textContent = "The bars move while the network trains.";
}

function stroke(x, y, begin) {
  ink.lineWidth = 26;
  ink.lineCap = ink.lineJoin = "round";
  ink.strokeStyle = "#1e1a16";
  ink.beginPath();
  ink.moveTo(begin ? x : pen.x, begin ? y : pen.y);
  ink.lineTo(x, y + 0.01);
  ink.stroke();
  [pen.x, pen.y] = [x, y];
  look();
}

// The embedded digits are 32 by 32 dots that fill the square, counted in blocks of four by four. Those of MNIST take 20 of 28 pixels, and
// have their centre of mass in the middle.
function pixels() {
  const { data } = ink.getImageData(0, 0, 256, 256);
  // Dark, and there at all: a test image lies on paper.
  const is = (x, y) => x >= 0 && y >= 0 && x < 256 && y < 256 && data[4 * (256 * y + x) + 3] > 100 && data[4 * (256 * y + x)] < 140;
  let [left, top, right, bottom] = [256, 256, -1, -1];
  const mass = { x: 0, y: 0, dots: 0 };
  for (let y = 0; y < 256; y += 2) for (let x = 0; x < 256; x += 2) if (is(x, y)) {
    [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
    [mass.x, mass.y, mass.dots] = [mass.x + x, mass.y + y, mass.dots + 1];
  }
  if (right < 0) return null;
  const side = Math.max(bottom - top, right - left, 40) + 2;
  const across = state.session?.side ?? 8;
  const dots = 4 * across;
  // How far dots are apart, and where the first is.
  const step = across === 8 ? side / dots : (1.4 * side) / dots;
  const [x0, y0] = across === 8
    ? [(left + right - side) / 2, (top + bottom - side) / 2]
    : [mass.x / mass.dots - 0.7 * side, mass.y / mass.dots - 0.7 * side];
  const image = new Float32Array(across * across);
  for (let y = 0; y < dots; y++) for (let x = 0; x < dots; x++) {
    if (is(Math.round(x0 + (x + 0.5) * step), Math.round(y0 + (y + 0.5) * step))) image[across * (y >> 2) + (x >> 2)] += 1 / 16;
  }
  return image;
}

let looking = false;
function look() {
  if (looking) return;
  looking = true;
  requestAnimationFrame(() => {
    looking = false;
    const image = pixels();
    if (image) send("draw", { image });
  });
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * 256) / box.width, ((event.clientY - box.top) * 256) / box.height];
}
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pen.down = true;
  stroke(...place(event), true);
});
canvas.addEventListener("pointermove", (event) => { if (pen.down && event.buttons) stroke(...place(event), false); });
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { pen.down = false; });
canvas.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [-16, 0], ArrowRight: [16, 0], ArrowUp: [0, -16], ArrowDown: [0, 16] }[event.key];
  if (event.key === " ") {
    pen.down = !pen.down;
    if (pen.down) stroke(pen.x, pen.y, true);
    $("answer").textContent = pen.down ? "The pen is down." : "The pen is up.";
  } else if (event.key === "Escape") {
    pen.down = false;
    clear();
  } else if (move) {
    const within = (value) => Math.min(248, Math.max(8, value));
    const [x, y] = [within(pen.x + move[0]), within(pen.y + move[1])];
    if (pen.down) stroke(x, y, false);
    else [pen.x, pen.y] = [x, y];
  } else return;
  event.preventDefault();
});

for (let digit = 0; digit < 10; digit++) {
  const bar = document.createElement("li");
  bar.innerHTML = `<span>${digit}</span><span class="track" role="meter" aria-label="${digit}" aria-valuemin="0" aria-valuemax="100" aria-valuenow="0"><span class="fill" style="display:block"></span></span><span class="share">0 %</span>`;
  $("bars").append(bar);
}

function setBar(bar, share) {
  const percent = Math.round(100 * share);
  bar.querySelector(".fill").style.transform = `scaleX(${share})`;
  bar.querySelector(".track").setAttribute("aria-valuenow", percent);
  bar.querySelector(".share").textContent = `${percent} %`;
  bar.classList.toggle("best", false);
}

// What the worker tells

// By hand: the first number that the browser writes for a language costs it 20 ms.
function number(value, digits) {
  if (!Number.isFinite(value)) return "–";
  return value.toFixed(digits).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

function begin() {
  Object.assign(state, { losses: [], accuracies: [], tests: [], steps: 0, epoch: 0, rates: [], difference: null });
  $("badge").hidden = true;
  for (const id of ["loss", "accuracy", "test", "rate", "time"]) $(id).textContent = "–";
  $("steps").textContent = $("epoch").textContent = "0";
  showWrong([]);
  $("wrong-count").textContent = "";
  $("error").hidden = true;
  redraw();
}

const hear = {
  described({ session }) {
    state.session = session;
    const { name, backend, kind, parameters } = session;
    const where = backend === "reference" ? "The CPU reference: there is no WebGPU here" : `${name} (${backend}${kind === "software" ? ", software" : ""})`;
    $("device").textContent = `${where} · ${number(parameters, 0)} parameters · ${number(session.train, 0)} images of handwritten digits`;
  },
  opened() {
    state.opened = true;
    for (const id of ["start", "step", "restart", "example", "save", "load", "other"]) $(id).disabled = false;
    if (parameters.has("start")) send("start");
  },
  restarted: begin,
  replaced() { begin(); clear(); },
  running({ running }) {
    state.running = running;
    $("start").textContent = running ? "Pause" : "Start";
    $("step").disabled = running || !state.opened;
  },
  progress({ report, milliseconds, difference }) {
    state.reported = performance.now();
    if (report.known.length > 0) state.first ??= state.reported;
    for (const { loss, accuracy, images } of report.known) {
      state.losses.push(loss);
      state.accuracies.push(accuracy);
      state.rates.push([state.reported, images]);
    }
    Object.assign(state, { steps: report.steps, epoch: report.epoch, memory: report.memory });
    state.rates = state.rates.filter(([time]) => time > state.reported - 3000);
    const last = (list) => smooth(list.slice(-60)).at(-1);
    $("loss").textContent = number(last(state.losses), 3);
    $("accuracy").textContent = state.accuracies.length ? `${number(100 * last(state.accuracies), 1)} %` : "–";
    $("steps").textContent = number(report.steps, 0);
    $("epoch").textContent = number(report.epoch, 0);
    if (milliseconds !== null) {
      const since = state.reported - state.rates[0]?.[0];
      state.rate = since > 200 ? (1000 * state.rates.slice(1).reduce((sum, [, images]) => sum + images, 0)) / since : null;
      $("rate").textContent = number(state.rate, 0);
      $("time").textContent = number(milliseconds, 1);
    }
    $("dispatches").textContent = report.dispatches;
    $("memory").textContent = `${number(report.memory / 1e6, 1)} MB`;
    if (difference && !state.difference) {
      const [worst, count] = difference;
      state.difference = worst;
      $("badge").hidden = false;
      $("badge").classList.toggle("same", worst <= 1e-3);
      $("badge").textContent = worst <= 1e-3 ? "same losses as native" : `losses differ from native by ${worst.toExponential(1)}`;
      $("badge").title = `the first ${count} losses, within ${worst.toExponential(1)}`;
    }
    redraw();
  },
  answer({ shares }) {
    state.shares = [...shares];
    const best = shares.indexOf(Math.max(...shares));
    [...$("bars").children].forEach((bar, digit) => {
      setBar(bar, shares[digit]);
      bar.classList.toggle("best", digit === best);
    });
    const text = `The network sees a ${best}.`;
    if ($("answer").textContent !== text) $("answer").textContent = text;
  },
  filters({ values }) { state.filters = [...values]; redraw(); },
  evaluated({ loss, accuracy, wrong, count: judged }) {
    state.tests.push({ step: state.losses.length, loss, accuracy });
    $("test").textContent = `${number(100 * accuracy, 1)} %`;
    $("wrong-count").textContent = `${Math.round((1 - accuracy) * judged)} of ${judged}`;
    showWrong(wrong);
    redraw();
  },
  example({ image, label }) {
    ink.clearRect(0, 0, 256, 256);
    ink.imageSmoothingEnabled = false;
    const paper = small(image);
    ink.drawImage(paper, 0, 0, 256, 256);
    $("answer").textContent = `A test image: a ${label}.`;
    send("draw", { image });
  },
  saved({ bytes }) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes]));
    link.download = "digits.safetensors";
    link.click();
    state.saved = bytes.length;
    state.loadAgain = () => send("load", { bytes });
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  },
  failed({ message, opened }) {
    state.failure = message;
    $("error").textContent = opened ? message : `${message} Try a browser with WebGPU: Chrome, Edge, or a recent Firefox or Safari.`;
    $("error").hidden = false;
  },
};
worker.onmessage = ({ data: { kind, ...content } }) => hear[kind]?.(content);
worker.onerror = (event) => hear.failed({ message: event.message ?? "the worker failed", opened: true });

// Buttons

$("start").onclick = () => send(state.running ? "pause" : "start");
$("step").onclick = () => send("step");
$("restart").onclick = () => isSound() && send("restart", { settings: settings() });
$("lr").onchange = () => $("lr").value !== "" && $("lr").checkValidity() && send("rate", { lr: Number($("lr").value) });
$("clear").onclick = clear;
$("example").onclick = () => send("example");
$("save").onclick = () => send("save");
$("load").onclick = () => $("file").click();
$("file").onchange = async () => {
  const [file] = $("file").files;
  if (file) send("load", { bytes: new Uint8Array(await file.arrayBuffer()) });
  $("file").value = "";
};
// MNIST's four files, dropped anywhere on the page or chosen.
const FILES = ["train-images", "train-labels", "t10k-images", "t10k-labels"];

async function unpacked(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function take(list) {
  const files = FILES.map((name) => [...list].find((file) => file.name.startsWith(name)));
  const missing = FILES.filter((_, i) => !files[i]);
  try {
    if (missing.length > 0) throw new Error(`MNIST is four files; ${missing.join(", ")} ${missing.length === 1 ? "is" : "are"} not among these.`);
    const contents = await Promise.all(files.map(unpacked));
    $("error").hidden = true;
    send("data", { files: contents }, contents.map((bytes) => bytes.buffer));
  } catch (error) {
    $("error").textContent = error.message;
    $("error").hidden = false;
  }
}
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  if (state.opened && event.dataTransfer.files.length > 0) take(event.dataTransfer.files);
});
$("other").onclick = () => $("others").click();
$("others").onchange = async () => {
  await take($("others").files);
  $("others").value = "";
};
// For tests.
state.take = take;
new ResizeObserver(redraw).observe($("loss-plot"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
// The longest stretch in which the page could not answer.
if (PerformanceObserver.supportedEntryTypes?.includes("longtask")) {
  new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) state.longest = Math.max(state.longest, duration); })
    .observe({ type: "longtask", buffered: true });
}

const wanted = parameters.get("device") ?? (navigator.gpu ? "auto" : "cpu");
if (wanted === "cpu") {
  $("filters").value = 4;
  $("batch").value = 16;
}
send("open", { wanted, settings: settings(), wasm: new URL("kiln_web_bg.wasm", location.href).href });
redraw();
