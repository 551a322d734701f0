"""An evaluation as one HTML file: what passed, how sure that is, and where it fails.

`data` is what a report is made of, plain data; `render` writes it. The page embeds all it shows,
asks nothing of any network, and runs one script of its own, which its content security policy
names by hash. `texts` is why a text of a model is never markup in it; `entries` is how the
records are laid out so that ten thousand rows open fast; `drawing` has the numbers of its
drawings.
"""
