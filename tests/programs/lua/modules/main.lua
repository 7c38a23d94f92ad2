local square = require("shapes.square")

print(square.area(7))
