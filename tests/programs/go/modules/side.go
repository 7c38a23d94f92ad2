package main

const side = 7
