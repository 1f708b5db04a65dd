#!/usr/bin/env python3
"""Runs ranks on two hosts that are namespaces of this machine, with a slow and lossy link between them.

    sudo scripts/two_hosts.py target/release/examples/distributed --steps 100 --scaling-model

The two network namespaces have an address each, and share nothing but the link: a TAP device in each, and this program, which
forwards what one sends to the other after a delay, drops a share of it, and lets through no more than a line's bits a second.
For kernels without netem; wants root, /dev/net/tun, iproute2, util-linux and Open MPI, and nothing else.
"""

import argparse
import collections
import fcntl
import os
import random
import select
import shlex
import struct
import subprocess
import sys
import threading
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
# Frames that wait in a direction at most, as netem has it; those beyond are dropped.
QUEUE = 1000
NAMES = ("kiln-one", "kiln-two")
ADDRESSES = ("10.93.0.1", "10.93.0.2")


class Direction:
    """Frames from one end to the other."""

    def __init__(self, source, target, args, seed):
        self.source, self.target = source, target
        self.delay, self.loss, self.rate = args.delay / 1e3, args.loss / 100, args.gigabits * 1e9 / 8
        self.random = random.Random(seed)
        self.waiting = collections.deque()
        self.line_is_free = 0.0
        self.frames = self.lost = self.bytes = 0

    def take(self):
        """Reads what has been sent."""
        while True:
            try:
                frame = os.read(self.source, 65536)
            except BlockingIOError:
                return
            self.frames += 1
            self.bytes += len(frame)
            if self.random.random() < self.loss or len(self.waiting) >= QUEUE:
                self.lost += 1
                continue
            self.line_is_free = max(time.monotonic(), self.line_is_free) + len(frame) / self.rate
            self.waiting.append((self.line_is_free + self.delay, frame))

    def give(self):
        """Hands over what has been on its way long enough."""
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            try:
                os.write(self.target, self.waiting.popleft()[1])
            except OSError:
                pass  # The other end is not up yet, or takes no more: the frame is lost.


def tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


def run(*words, check=True):
    subprocess.run(words, check=check, stdout=subprocess.DEVNULL, stderr=None if check else subprocess.DEVNULL)


def forward(directions, stop):
    poll = select.poll()
    for direction in directions:
        poll.register(direction.source, select.POLLIN)
    while not stop.is_set():
        first = min((way.waiting[0][0] for way in directions if way.waiting), default=time.monotonic() + 0.1)
        left = first - time.monotonic()
        # `poll` counts milliseconds; what is left of one is waited for by looking.
        poll.poll(max(0, int(left * 1e3)))
        for way in directions:
            way.take()
            way.give()


def agent(words):
    """What Open MPI calls in the place of ssh: a host's name or address, and a command."""
    host, command = words[0], " ".join(words[1:])
    name = NAMES[ADDRESSES.index(host)]
    inside = f"hostname {name}; {command}"
    os.execvp("ip", ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", inside])


def main():
    if sys.argv[1:2] == ["--agent"]:
        agent([word for word in sys.argv[2:] if word != "-x"])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=5.0, help="milliseconds from one host to the other")
    parser.add_argument("--loss", type=float, default=1.0, help="frames of a hundred that are dropped")
    parser.add_argument("--gigabits", type=float, default=1.0, help="gigabits a second of the line, each way")
    parser.add_argument("--ranks", type=int, default=2, help="ranks, spread over both hosts")
    parser.add_argument("--seed", type=int, default=1, help="of the losses")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="program and arguments of a rank")
    args = parser.parse_args()
    if not args.command:
        parser.error("say what to run")
    if os.geteuid() != 0:
        parser.error("network namespaces want root")

    ends = []
    stop = threading.Event()
    try:
        for name, address in zip(NAMES, ADDRESSES):
            run("ip", "netns", "add", name)
            device = f"{name}-tap"
            ends.append(tap(device))
            run("ip", "link", "set", device, "netns", name)
            for words in (["addr", "add", f"{address}/24", "dev", device], ["link", "set", device, "up"], ["link", "set", "lo", "up"]):
                run("ip", "-n", name, *words)
        one, two = ends
        directions = [Direction(one, two, args, 2 * args.seed), Direction(two, one, args, 2 * args.seed + 1)]
        threading.Thread(target=forward, args=(directions, stop), daemon=True).start()
        own = os.path.abspath(__file__)
        hosts = ",".join(f"{address}:{(args.ranks + 1 - i) // 2}" for i, address in enumerate(ADDRESSES))
        network = "10.93.0.0/24"
        mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(args.ranks)]
        mpirun += ["--host", hosts, "--map-by", "node", "-x", "LP_NUM_THREADS", "--wdir", os.getcwd()]
        # No shared memory: the hosts are on one machine.
        mpirun += ["--mca", "btl", "self,tcp", "--mca", "btl_tcp_if_include", network, "--mca", "oob_tcp_if_include", network]
        mpirun += ["--mca", "plm_rsh_agent", f"{sys.executable} {own} --agent", "--mca", "plm_rsh_no_tree_spawn", "1"]
        line = " ".join(shlex.quote(word) for word in mpirun + args.command)
        environment = dict(os.environ, LP_NUM_THREADS=os.environ.get("LP_NUM_THREADS", "1"))
        inside = ["ip", "netns", "exec", NAMES[0], "unshare", "--uts", "sh", "-c", f"hostname {NAMES[0]}; exec {line}"]
        code = subprocess.run(inside, env=environment, check=False).returncode
        for number, way in enumerate(directions):
            print(f"link     {way.frames} frames, {way.bytes} bytes from host {number + 1}, {way.lost} lost")
        return code
    finally:
        stop.set()
        for end in ends:
            os.close(end)
        for name in NAMES:
            run("ip", "netns", "delete", name, check=False)


if __name__ == "__main__":
    sys.exit(main())
