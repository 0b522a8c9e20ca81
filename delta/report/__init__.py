"""The report: tables, figures and the page, made from the results of runs, with the paper's numbers beside them."""
