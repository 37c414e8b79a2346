#!/usr/bin/env python3
"""Runs a command on a terminal and types: typist.py ANSWERS COMMAND...

Each line of ANSWERS is what a question ends with, a tab, and what is typed. All of them have to be asked, in this order.
"""
import os, pty, sys

answers = [line.rstrip("\n").split("\t") for line in open(sys.argv[1])]
child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
seen = ""
while True:
    try:
        text = os.read(terminal, 4096).decode(errors="replace")
    except OSError:
        break
    if not text:
        break
    sys.stdout.write(text)
    sys.stdout.flush()
    seen += text
    if answers and seen.rstrip(" ").endswith(answers[0][0].rstrip(" ")):
        os.write(terminal, (answers.pop(0)[1] + "\n").encode())
        seen = ""
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if answers:
    sys.exit(f"never asked: {answers}")
sys.exit(status)
