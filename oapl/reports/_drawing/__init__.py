"""What figures give, and how it becomes pictures: SVG for the page, PNG for a paper."""
