"""Drawing: charts as values, put onto matplotlib axes, into SVG and PNG, in one palette."""
