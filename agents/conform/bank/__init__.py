"""The suite for banks: it is a wallet and a merchant, and asks what honest ones ask, and what they never would."""
