"""One logical request: headers, attempts, waits, event streams. The only user of aiohttp."""
