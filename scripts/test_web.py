#!/usr/bin/env python3
"""Trains in the page with headless Chromium (WebGPU on its software driver) and looks at what comes of it.

usage: test_web.py FOLDER LOSSES TRIALS OUT [--chromium PATH]

FOLDER is the built page, LOSSES a file with the losses of a native run (examples/browser_losses.rs, an epoch of 23
steps), TRIALS what is known of other networks natively (`.. -- trials`), on the tab's own driver if that is at hand, OUT a folder for
screenshots. Only Python's own library and Chromium are needed.
"""

import argparse
import base64
import functools
import http.server
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader",
    "--remote-debugging-pipe", "--hide-scrollbars", "--force-color-profile=srgb",
]
# The largest difference of a loss from that of a native run, which may be by another driver.
TOLERANCE = 1e-4
# That by the same kernels on the same driver.
SAME_DRIVER = 1e-6
# The milliseconds that the first loss may take after the page is opened, where other work shares the cores.
FIRST = 8000
# The milliseconds of processor time that a task of the page may take: by the clock the software driver, which has all cores, counts too.
LONGEST = 50
# The least share of the speed of a native run, by the same kernels on the same driver.
RATIO = 0.6
EPOCH = 23
BEGAN = time.time()


class Again(SystemExit):
    """What may come of the machine, not of the page: a browser that does not answer, a figure while other work has the cores."""


def say(*what):
    print(f"[{time.time() - BEGAN:4.0f} s]", *what, flush=True)


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".wasm": "application/wasm", ".js": "text/javascript"}

    def log_message(self, *_):
        pass


class Browser:
    """Chromium over the pipe of its DevTools protocol: JSON texts that end with a zero byte."""

    def __init__(self, path):
        self.profile = tempfile.mkdtemp(prefix="kiln-chromium-")
        to_browser, from_browser = os.pipe(), os.pipe()

        def inherit():
            os.dup2(to_browser[0], 3)
            os.dup2(from_browser[1], 4)

        self.process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"],
            preexec_fn=inherit, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        self.writer = os.fdopen(to_browser[1], "wb", buffering=0)
        self.reader = os.fdopen(from_browser[0], "rb", buffering=0)
        self.number, self.answers, self.problems, self.session = 0, {}, [], None
        self.lock, self.news = threading.Lock(), queue.Queue()
        self.events, self.traced = [], threading.Event()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        rest = b""
        while True:
            part = self.reader.read(1 << 16)
            if not part:
                return
            *texts, rest = (rest + part).split(b"\0")
            for text in texts:
                message = json.loads(text)
                if "id" in message:
                    self.news.put(message)
                else:
                    self.note(message["method"], message.get("params", {}), message.get("sessionId"))

    def note(self, method, params, session):
        if method == "Target.attachedToTarget":
            child = params["sessionId"]
            for enable in ["Runtime.enable", "Log.enable", "Runtime.runIfWaitingForDebugger"]:
                self.write(enable, {}, child)
        elif method == "Tracing.dataCollected":
            self.events.extend(params["value"])
        elif method == "Tracing.tracingComplete":
            self.traced.set()
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            texts = [str(each.get("value", each.get("description"))) for each in params["args"]]
            self.problems.append("console: " + " ".join(texts))
        elif method == "Runtime.exceptionThrown":
            detail = params["exceptionDetails"]
            self.problems.append("exception: " + detail.get("exception", {}).get("description", detail["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append("log: " + params["entry"]["text"] + " " + params["entry"].get("url", ""))

    def write(self, method, params, session):
        with self.lock:
            self.number += 1
            message = {"id": self.number, "method": method, "params": params}
            if session:
                message["sessionId"] = session
            self.writer.write(json.dumps(message).encode() + b"\0")
            return self.number

    def call(self, method, session="own", **params):
        number = self.write(method, params, self.session if session == "own" else session)
        end = time.time() + 120
        while number not in self.answers:
            try:
                message = self.news.get(timeout=max(0.1, end - time.time()))
            except queue.Empty:
                raise Again(f"test_web: no answer to {method}") from None
            self.answers[message["id"]] = message
        answer = self.answers.pop(number)
        if "error" in answer:
            raise SystemExit(f"test_web: {method}: {answer['error']}")
        return answer["result"]

    def open(self, url):
        target = self.call("Target.createTarget", session=None, url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", session=None, targetId=target, flatten=True)["sessionId"]
        for enable in ["Runtime.enable", "Log.enable", "Page.enable"]:
            self.call(enable)
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        self.size(1280, 860)
        self.call("Page.navigate", url=url)

    def evaluate(self, text):
        result = self.call("Runtime.evaluate", expression=text, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"test_web: {text}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def task(self, text, seconds=600):
        """What a promise gives, however long it takes."""
        self.evaluate(f"window.result = window.problem = null; ({text}).then((r) => {{ window.result = r; }}, (e) => {{ window.problem = String(e); }}); 0")
        self.until("window.result !== null || window.problem !== null", seconds)
        problem = self.evaluate("window.problem")
        expect(problem is None, problem)
        return self.evaluate("window.result")

    def trace(self):
        """Has the browser note what its threads do, until `tasks`."""
        categories = ["disabled-by-default-devtools.timeline", "blink.user_timing"]
        self.call("Tracing.start", session=None, transferMode="ReportEvents", traceConfig={"includedCategories": categories})

    def tasks(self):
        """Milliseconds of processor time that each task of the page took since `trace`."""
        self.evaluate("performance.mark('kiln-test'); 0")
        self.call("Tracing.end", session=None)
        expect(self.traced.wait(60), "the browser does not tell what it did")
        thread = next((each["pid"], each["tid"]) for each in self.events if each["name"] == "kiln-test")
        own = [each for each in self.events if each["name"] == "RunTask" and (each["pid"], each["tid"]) == thread]
        return [each["tdur"] / 1e3 for each in own if "tdur" in each]

    def until(self, text, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            value = self.evaluate(text)
            if value:
                return value
            failure = self.evaluate("window.kiln?.failure")
            if failure:
                raise SystemExit(f"test_web: the page says: {failure}; {self.problems}")
            time.sleep(0.1)
        raise SystemExit(f"test_web: not within {seconds} s: {text}; {self.evaluate('JSON.stringify(window.kiln ?? null).slice(0, 400)')} {self.problems}")

    def size(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)

    def picture(self, path):
        time.sleep(0.4)
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def mouse(self, kind, x, y):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=0 if kind == "mouseReleased" else 1, clickCount=1)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.profile, ignore_errors=True)


def expect(holds, what, error=SystemExit):
    if not holds:
        raise error(f"test_web: {what}")


def draw_seven(browser):
    box = browser.evaluate("(() => { const b = document.getElementById('canvas').getBoundingClientRect(); return [b.x, b.y, b.width]; })()")
    at = lambda x, y: (box[0] + x * box[2], box[1] + y * box[2])
    lines = [[(0.25, 0.2), (0.5, 0.2), (0.75, 0.2)], [(0.75, 0.2), (0.6, 0.5), (0.45, 0.85)]]
    for line in lines:
        browser.mouse("mousePressed", *at(*line[0]))
        for point in line[1:]:
            browser.mouse("mouseMoved", *at(*point))
        browser.mouse("mouseReleased", *at(*line[-1]))


def run(browser, address, native, out):
    click = lambda name: browser.evaluate(f"document.getElementById('{name}').click()")
    browser.open("about:blank")
    browser.trace()
    browser.call("Page.navigate", url=address)
    browser.until("window.kiln?.opened", 90)
    say("device:", browser.evaluate("document.getElementById('device').textContent"))
    click("start")
    first = browser.until("kiln.first", 90)
    browser.until(f"kiln.losses.length >= {EPOCH}", 120)
    losses = browser.evaluate(f"kiln.losses.slice(0, {EPOCH})")
    worst = max(abs(own - other) for own, other in zip(losses, native, strict=True))
    say(f"first loss after {first:.0f} ms; {EPOCH} losses within {worst:.1e} of native")
    expect(worst <= TOLERANCE, f"losses differ: {losses} {native}")
    expect(first <= FIRST, "the first loss takes too long", Again)
    badge = browser.evaluate("document.getElementById('badge').textContent")
    expect(badge == "same losses as native", f"the badge says {badge!r}")

    draw_seven(browser)
    before = browser.until("kiln.shares", 30)
    expect(abs(sum(before) - 1) < 1e-3 and len(before) == 10, f"these are no probabilities: {before}")
    steps = browser.evaluate("kiln.steps")
    browser.until(f"kiln.steps > {steps + 25}", 120)
    after = browser.evaluate("kiln.shares")
    expect(after != before, "the bars do not move while the network trains")
    tasks = browser.tasks()
    say(f"the page's longest of {len(tasks)} tasks took {max(tasks):.0f} ms of processor time")
    expect(len(tasks) > 100, f"the browser tells of {len(tasks)} tasks only")
    expect(max(tasks) <= LONGEST, f"the page is held up: {sorted(tasks)[-5:]}", Again)
    browser.until("kiln.epoch >= 4", 240)
    memory = browser.evaluate("kiln.memory")
    browser.until("kiln.epoch >= 9", 240)
    expect(browser.evaluate("kiln.memory") == memory, "memory grows")
    bars = browser.evaluate("[...document.querySelectorAll('#bars .track')].map((bar) => Number(bar.getAttribute('aria-valuenow')))")
    say("bars of a drawn seven:", bars, browser.evaluate("document.getElementById('answer').textContent"))
    expect(bars.index(max(bars)) == 7, "a seven is taken for another digit")
    rate, longest = browser.evaluate("kiln.rate"), browser.evaluate("kiln.longest")
    say(f"{rate or 0:.0f} images/s while the page is drawn; the page's longest task was {longest:.0f} ms by the clock")
    browser.picture(out / "desktop.png")
    click("start")
    browser.until("!kiln.running")
    # Judged by the weights that it stopped with.
    browser.until("kiln.tests.at(-1)?.step === kiln.losses.length", 60)
    accuracy = browser.evaluate("kiln.tests.at(-1).accuracy")
    say(f"test accuracy {accuracy:.3f} after {browser.evaluate('kiln.steps')} steps")
    expect(accuracy > 0.85, "it has not learnt")

    click("save")
    browser.until("kiln.saved > 1000")
    click("restart")
    browser.until("kiln.steps === 0 && kiln.losses.length === 0")
    browser.evaluate("kiln.loadAgain()")
    again = browser.until("kiln.tests.at(-1)?.accuracy", 60)
    expect(again == accuracy, f"loaded weights are right {again} of the time, not {accuracy}")

    for name, width, height, phone in [("desktop", 1280, 860, False), ("phone", 390, 844, True)]:
        browser.size(width, height, phone)
        for scheme in ["light", "dark"]:
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            wide = browser.evaluate("document.documentElement.scrollWidth")
            expect(wide <= width, f"the page is {wide} wide in a window of {width}")
            browser.picture(out / f"{name}-{scheme}.png")
    expect(not browser.problems, f"errors of the page: {browser.problems}")

    # Files in MNIST's form, one of them packed: stripes across or down, which are told apart soon.
    browser.size(1280, 860)
    browser.evaluate("""(async () => {
        const idx = (sizes, values) => {
            const head = [0, 0, 8, sizes.length, ...sizes.flatMap((size) => [size >> 24, size >> 16 & 255, size >> 8 & 255, size & 255])];
            return new Uint8Array([...head, ...values]);
        };
        const pair = (count, name) => {
            const labels = Array.from({ length: count }, (_, i) => i % 2);
            const stripe = (i, k) => ((labels[i] ? k % 28 : Math.floor(k / 28)) + i) % 4 < 2 ? 255 : 0;
            const pixels = labels.flatMap((_, i) => Array.from({ length: 784 }, (_, k) => stripe(i, k)));
            return [[`${name}-images-idx3-ubyte`, idx([count, 28, 28], pixels)], [`${name}-labels-idx1-ubyte`, idx([count], labels)]];
        };
        const files = [...pair(640, "train"), ...pair(60, "t10k")].map(([name, bytes]) => new File([bytes], name));
        const packed = new Response(files[0].stream().pipeThrough(new CompressionStream("gzip")));
        files[0] = new File([await packed.blob()], `${files[0].name}.gz`);
        await kiln.take(files.slice(1));
        window.refusal = document.getElementById("error").textContent;
        const dropped = new DataTransfer();
        files.forEach((file) => dropped.items.add(file));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
    })()""")
    refusal = browser.evaluate("window.refusal")
    expect("train-images" in refusal, f"three files are taken for MNIST: {refusal!r}")
    browser.until("kiln.session.side === 28 && kiln.steps === 0", 30)
    click("start")
    browser.until("kiln.steps >= 20", 120)
    draw_seven(browser)
    click("start")
    browser.until("!kiln.running && kiln.tests.length > 0", 60)
    accuracy = browser.evaluate("kiln.tests.at(-1).accuracy")
    say(f"dropped images of 28x28: {accuracy:.3f} right after {browser.evaluate('kiln.steps')} steps")
    expect(accuracy > 0.9, "it has not learnt from what was dropped")
    expect(not browser.problems, f"errors of the page: {browser.problems}")

    browser.evaluate("kiln.lose()")
    message = None
    for _ in range(100):
        message = browser.evaluate("kiln.failure")
        if message:
            break
        time.sleep(0.1)
    say("a lost device:", message)
    expect(message and "lost" in message, "the page does not tell that its device is lost")


def trials(browser, address, native):
    """Networks beside the page's: by the kernels of software and of hardware, from bytes on, for many steps."""
    browser.call("Page.navigate", url=address + "check.html")
    browser.until("window.Trial !== undefined", 90)
    same = "SwiftShader" in native["device"]
    tolerance = SAME_DRIVER if same else TOLERANCE
    say("native runs by", native["device"])
    for label, wanted in native["trials"].items():
        name, _, kind = label.partition(" ")
        half = len(wanted["losses"]) // 2
        # To the half, and from its bytes on in another network: on another device, unless kernels take long to compile.
        got = browser.task(f"""(async () => {{
            const first = await Trial.open("{name}", {"true" if kind else "false"});
            const losses = [...await first.losses({half})];
            const bytes = await first.save();
            const whole = [...losses, ...await first.losses({half})];
            const second = {f"first.beside()" if kind else f'await Trial.open("{name}", false)'};
            await second.resume(bytes, {half});
            const again = [...losses, ...await second.losses({half})];
            return {{ whole, again, kernels: second.kernels() }};
        }})()""")
        whole = got["whole"]
        worst = max(abs(own - other) for own, other in zip(whole, wanted["losses"], strict=True))
        say(f"{label}: {len(whole)} losses within {worst:.1e} of native, {whole[0]:.3f} to {whole[-1]:.3f}, {len(got['kernels'])} kernels")
        expect(whole == got["again"], f"{label} does not resume to the same losses: {got}")
        expect(whole[-1] < whole[0], f"{label} does not learn: {whole}")
        expect(got["kernels"] == wanted["kernels"], f"{label} takes other kernels: {got['kernels']}, natively {wanted['kernels']}")
        expect(worst <= tolerance, f"losses of {label} differ: {whole} {wanted['losses']}")
    got = browser.task(f"""(async () => [...await (await Trial.open("tiny", false)).quasi_newton({len(native["lbfgs"])})])()""")
    worst = max(abs(own - other) for own, other in zip(got, native["lbfgs"], strict=True))
    say(f"lbfgs: {len(got)} losses within {worst:.1e} of native")
    expect(worst <= tolerance, f"losses of L-BFGS differ: {got} {native['lbfgs']}")
    before, after, step = browser.task("""(async () => {
        const trial = await Trial.open("tiny", false);
        await timed(trial, 100);
        const before = trial.memory();
        const step = await timed(trial, 1000);
        return [before, trial.memory(), step];
    })()""")
    say(f"1,000 steps: {before:.0f} bytes before, {after:.0f} behind; the host takes {step['host']:.2f} ms of a cached step")
    expect(before == after, "memory grows")
    for name, (own, plain) in native["milliseconds"].items():
        tab = browser.task(f"""(async () => {{
            const trial = await Trial.open("{name}", false);
            await trial.losses(5);
            const rounds = [];
            for (let round = 0; round < 3; round++) rounds.push((await timed(trial, 40)).whole / 40);
            return Math.min(...rounds);
        }})()""")
        say(f"{name}: {tab:.2f} ms a step in the tab; natively {plain:.2f} by the same kernels, {own:.2f} by all: {plain / tab:.2f} and {own / tab:.2f} of that speed")
        expect(not same or plain / tab >= RATIO, f"a tab is slower than {RATIO} of a native run by the same kernels on the same driver", Again)
    expect(not browser.problems, f"errors of the page: {browser.problems}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("folder")
    arguments.add_argument("losses", type=Path)
    arguments.add_argument("trials", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome") or "chromium")
    given = arguments.parse_args()
    if not shutil.which(given.chromium):
        raise SystemExit("test_web: there is no Chromium; on Debian: apt-get install chromium")
    native = json.loads(given.losses.read_text())
    given.out.mkdir(parents=True, exist_ok=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=given.folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    for is_last in (False, True):
        browser = Browser(given.chromium)
        try:
            run(browser, address, native, given.out)
            trials(browser, address, json.loads(given.trials.read_text()))
            break
        except Again as problem:
            if is_last:
                raise
            say(f"{problem}: everything once more, in a browser of its own")
        finally:
            browser.close()
    say("test_web: all of it holds; screenshots in", given.out)


if __name__ == "__main__":
    main()
