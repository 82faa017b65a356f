"""The shop on the web: pages for buyers, the shopkeeper's office, and the interface for the shop's own system."""
