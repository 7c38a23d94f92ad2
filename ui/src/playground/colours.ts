// Colours of programs, each at least 4.5 to 1 against its ground.

import { HighlightStyle } from "@codemirror/language";
import { tags } from "@lezer/highlight";

interface Colours {
  keyword: string;
  string: string;
  number: string;
  comment: string;
  call: string;
  type: string;
  property: string;
  invalid: string;
}

const style = (colours: Colours) =>
  HighlightStyle.define([
    { tag: [tags.keyword, tags.modifier, tags.operatorKeyword], color: colours.keyword },
    { tag: [tags.string, tags.special(tags.string), tags.regexp, tags.escape], color: colours.string },
    { tag: [tags.number, tags.bool, tags.null, tags.atom], color: colours.number },
    { tag: [tags.comment, tags.meta], color: colours.comment },
    { tag: [tags.function(tags.variableName), tags.function(tags.propertyName)], color: colours.call },
    { tag: [tags.typeName, tags.className, tags.namespace], color: colours.type },
    { tag: [tags.propertyName, tags.attributeName], color: colours.property },
    { tag: tags.invalid, color: colours.invalid },
  ]);

export const light = style({
  keyword: "#7a1fa2",
  string: "#1b6e2d",
  number: "#9a4a00",
  comment: "#5c667a",
  call: "#1d47b3",
  type: "#7a5200",
  property: "#0b6170",
  invalid: "#a3161f",
});

export const dark = style({
  keyword: "#c792ea",
  string: "#a5d6a7",
  number: "#f6a77c",
  comment: "#94a0b3",
  call: "#82b1ff",
  type: "#ffd28a",
  property: "#9cdcfe",
  invalid: "#ff8a80",
});
