"""The progress of a call, shown where it runs: a live line, a widget, or a line now and then."""

from elluminate_async.progress.showing import Showing as Showing
