import "../shared/theme";
import "../shared/style.css";
import "./ops.css";
import { render } from "preact";
import { Operation } from "./operation";

render(<Operation />, document.getElementById("app")!);
