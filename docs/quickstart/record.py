#!/usr/bin/env python3
"""Runs the quick start of README.md on a terminal, as a person would, and draws what is seen as an SVG that plays.

    docs/quickstart/record.py target/release/superserve >docs/quickstart/quickstart.svg

The first block of the section is the server (its build is left out), the others are typed in another terminal.
Ids, tokens and times are those of the run.
"""

import html
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WIDTH, LINE, CHARACTER = 880, 18, 8.4
COLUMNS = 100
# What a person types where he is asked, hidden. It is no key of anybody
ANSWER = "sk-ant-this-is-no-real-key"


def blocks():
    """The commands of the quick start, a list a block."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        section = file.read().split("## Quick start", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"```sh\n(.*?)```", section, re.S)
    return [[line for line in block.replace("\\\n", "").splitlines() if line] for block in found]


def told(text):
    """What stands on a terminal, without what moves the cursor or colours."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r\n", "\n").replace("\r", "\n")
    # A token is a token, also one of a server that is gone by then
    text = re.sub(r"ss_[\w-]{49}", "ss_" + 49 * "•", text)
    return [line.rstrip() for line in text.split("\n")]


def on_a_terminal(command, environment, directory, answers=()):
    """Runs a command on a terminal, answers what it asks, and gives what was seen."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(directory)
        os.execvpe("bash", ["bash", "-c", command], environment)
    seen, answers = b"", list(answers)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.3)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:
                break
            if not piece:
                break
            seen += piece
        elif answers and seen.rstrip().endswith(b":"):
            os.write(terminal, answers.pop(0).encode() + b"\n")
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{command}: {seen.decode(errors='replace')}")
    return told(seen.decode())


def start(binary, environment, directory):
    """Starts the server, and gives it and what it shows first."""
    master, terminal = pty.openpty()
    server = subprocess.Popen([binary, "serve"], env=environment, cwd=directory, stdin=terminal, stdout=terminal, stderr=terminal)
    seen = b""
    deadline = time.monotonic() + 30
    while b"secrets set" not in seen and time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 65536)
    return server, [line for line in told(seen.decode()) if not re.match(r"\d{4}-\d\d-\d\dT", line)]


def record(binary):
    """What is typed, and what is shown for it."""
    binary = os.path.abspath(binary)
    (first, *_), *others = blocks()
    scenes = []
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.dirname(binary) + ":" + os.environ["PATH"]
        environment = {"PATH": path, "HOME": directory, "TERM": "xterm"}
        server, shown = start(binary, environment, directory)
        try:
            scenes.append((first, shown))
            for line in (line for block in others for line in block):
                command = line.split("   #", 1)[0].rstrip()
                if command.startswith("export "):
                    name, value = command.removeprefix("export ").split("=", 1)
                    environment[name] = value
                    scenes.append((command, []))
                else:
                    scenes.append((command, on_a_terminal(command, environment, directory, [ANSWER, ""])))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    for _, shown in scenes:
        assert not any(ANSWER in line for line in shown), "a value was shown"
    return scenes


def lines(scenes):
    """Each line with the second at which it is there, and whether it was typed."""
    clock = 0.5
    for command, shown in scenes:
        clock += 0.3 + 0.02 * len(command)
        for number, piece in enumerate(wrapped("$ " + command)):
            yield clock, number == 0, piece
        for line in shown:
            clock += 0.08
            for piece in wrapped(line):
                yield clock, False, piece
        clock += 1.2


def wrapped(line):
    return [line[at : at + COLUMNS] for at in range(0, len(line), COLUMNS)] or [""]


def draw(scenes):
    all_lines = [(when, typed, line) for when, typed, line in lines(scenes) if line]
    height = LINE * (len(all_lines) + 2)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="14">'
    yield "<title>The quick start on a terminal</title>"
    yield "<style>text{fill:#d8dee9;white-space:pre;opacity:0;animation:show 0s linear forwards}.typed{fill:#a3be8c}"
    yield "@keyframes show{to{opacity:1}}@media(prefers-reduced-motion:reduce){text{opacity:1;animation:none}}</style>"
    yield f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#242933"/>'
    for number, (when, typed, line) in enumerate(all_lines):
        kind = ' class="typed"' if typed else ""
        yield f'<text{kind} x="16" y="{LINE * (number + 2) - 6}" style="animation-delay:{when:.2f}s">{html.escape(line)}</text>'
    yield "</svg>"


if __name__ == "__main__":
    print("\n".join(draw(record(sys.argv[1]))))
