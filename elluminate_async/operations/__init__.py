"""The operations of the ``*_many`` methods: what one chunk of a kind does at the service."""
