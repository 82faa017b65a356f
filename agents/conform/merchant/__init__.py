"""The suite for merchants: it is the bank, whose moods change, and a buyer."""
