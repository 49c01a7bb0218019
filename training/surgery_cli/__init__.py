"""Commands of run_surgery.py; each module lists its own in COMMANDS."""
