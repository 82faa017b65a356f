"""How messages travel: the link to an MQTT broker, brokers we can start, rights, the observer."""
