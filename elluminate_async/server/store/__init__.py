"""The server's storage: tables, one database, and the statements of each noun.

Statements are plain functions over a `sqlalchemy.Connection`; `Database.read` and
`Database.write` run them, so that a transaction begins and ends in one place only.
"""
