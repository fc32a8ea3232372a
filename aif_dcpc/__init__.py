"""Active-inference agents on a divide-and-conquer predictive-coding engine."""
