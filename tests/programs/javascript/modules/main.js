const { area } = require("./shapes/square");

console.log(area(7));
