"""One reader per real data set, each for the layout its authors or the published protocol lay down."""
