"""The models behind the server: one small interface and its implementations."""
