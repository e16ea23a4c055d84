"""What every test may rely on."""

import signal

# A shell starts background jobs with interrupts ignored, and children inherit that: tests send interrupts to theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)
