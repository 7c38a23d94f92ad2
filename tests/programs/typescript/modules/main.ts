import { area } from "./shapes/square";

console.log(area(7));
