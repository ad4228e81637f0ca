"""Ways to do one thing, to be measured beside each other by benchmarks.race.

A contender is a function whose first argument is `lap`. It makes everything ready, does the work
once to warm up, calls lap(), and from then on does the same work again and again, with a call of
lap() after each time.
"""
