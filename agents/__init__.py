"""The agents: bank, merchant and client, each an asynchronous shell around the protocol."""
