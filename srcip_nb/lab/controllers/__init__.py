"""The controllers of the lab: each watches objects and works toward what they ask for."""
