"""One class a noun: what the user calls. Wire documents in and out, and the matching."""
