"""Writes `keys.txt`: RSA keys that every run of the simulator has in common, so that a seed is one world everywhere."""

import base64
from pathlib import Path

from agents.bank.signer import generate_rsa_key

PATH = Path(__file__).with_name("keys.txt")

if __name__ == "__main__":
    PATH.write_text("".join(base64.b64encode(generate_rsa_key()).decode() + "\n" for _ in range(40)))
