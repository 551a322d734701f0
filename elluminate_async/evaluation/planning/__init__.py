"""The plan of an evaluation, made without sending anything."""
