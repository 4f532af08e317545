"""The parts of bench/compare: servers, rows, runs, statistics, table and chart."""
