"""The real ttnn's captures of graphs, as far as the values must know of them."""

from __future__ import annotations

from typing import Any


class Graphs:
    """Whether a graph is being captured. `undispatched`: one whose ops do not run, so that tensors have no buffers."""

    def __init__(self) -> None:
        self._undispatched: list[bool] = []  # of the captures that have begun, one in another

    @property
    def capturing(self) -> bool:
        return bool(self._undispatched)

    @property
    def undispatched(self) -> bool:
        return any(self._undispatched)

    def install(self, ttnn: Any) -> None:
        """Has ttnn's calls that begin and end a capture noted."""
        graph = ttnn._ttnn.graph
        begin, end = graph.begin_graph_capture, graph.end_graph_capture

        def beginning(mode: Any, *args: Any, **kwargs: Any) -> Any:
            result = begin(mode, *args, **kwargs)
            self._undispatched.append(mode == ttnn.graph.RunMode.NO_DISPATCH)
            return result

        def ending(*args: Any, **kwargs: Any) -> Any:
            if self._undispatched:
                self._undispatched.pop()
            return end(*args, **kwargs)

        graph.begin_graph_capture, graph.end_graph_capture = beginning, ending
