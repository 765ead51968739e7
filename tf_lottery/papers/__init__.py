"""The networks, recipes, data sets and claims of the papers: examples."""
