"""Programming problems: the answer in a response, the tests of a problem, the comparison."""
