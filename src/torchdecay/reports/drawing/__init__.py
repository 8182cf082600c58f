"""Drawing: charts as values, put onto matplotlib axes, into SVG and PNG, in one palette.

Read in this order: files, palette, axes, marks, chart, svg, readout.
"""
