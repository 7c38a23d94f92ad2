import "../shared/theme";
import "../shared/style.css";
import "./playground.css";
import "./results.css";
import { render } from "preact";
import { Playground } from "./playground";

render(<Playground />, document.getElementById("app")!);
