"""The report: claims of the paper with the test that decides each, from recorded runs, and the page that shows them."""
