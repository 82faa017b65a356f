"""What the three web sites share: who may ask, sessions, templates, live updates, the server."""
