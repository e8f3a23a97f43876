"""Speed of this library against others, as ratios from one run: python -m benchmarks"""
