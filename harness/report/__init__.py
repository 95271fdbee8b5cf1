"""One self-contained HTML page made from records alone: no file beside it, no network. Free of torch."""
