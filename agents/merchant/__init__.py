"""The merchant: a catalogue, sales that end, deposits that are asked for until the bank has decided."""
