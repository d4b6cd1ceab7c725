"""
The command lines: thin shells around the modules that do the work.

Where one of them is the program that runs, an interrupt ends it at once from here on: importing
torch takes seconds, in which Ctrl-C is likely, and left a report of fifty lines.
"""

from pathlib import Path
import sys

from cnn_perception.console import end_at_interrupts

# As the installed programs are called, and what Python says while it looks for a module to run.
PROGRAMS = ('demo', 'describe', 'visualize', '-m')

if Path(sys.argv[0]).name in PROGRAMS:
    end_at_interrupts()
