"""The HTML report: its text here, and in a browser where there is one."""
