// A document for a library that writes styles as text, on a page whose policy allows none: what it would put
// into <style> elements and attributes goes through the style sheets of scripts, which the policy allows.

/** The style sheets, by the elements that stand for them. */
type Sheets = Map<HTMLElement, CSSStyleSheet>;

export interface StrictDocument {
  document: Document;
  /** Takes away all style sheets that are left. */
  dispose(): void;
}

export function strictDocument(): StrictDocument {
  const sheets: Sheets = new Map();
  const createElement = (name: string): HTMLElement => {
    if (name === "style") return standIn(sheets);
    const element = document.createElement(name);
    element.setAttribute = setAttribute;
    return element;
  };
  const strict = new Proxy(document, {
    get(target, key) {
      if (key === "createElement") return createElement;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const dispose = () => {
    for (const sheet of sheets.values()) remove(sheet);
    sheets.clear();
  };
  return { document: strict, dispose };
}

/** An element that shows nothing; its text becomes a style sheet of the document. */
function standIn(sheets: Sheets): HTMLElement {
  const element = document.createElement("template");
  const sheet = new CSSStyleSheet();
  sheets.set(element, sheet);
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, "textContent", { set: (text: string) => sheet.replaceSync(text) });
  element.remove = () => {
    remove(sheet);
    sheets.delete(element);
    HTMLElement.prototype.remove.call(element);
  };
  return element;
}

function remove(sheet: CSSStyleSheet) {
  document.adoptedStyleSheets = document.adoptedStyleSheets.filter((it) => it !== sheet);
}

function setAttribute(this: HTMLElement, name: string, value: string) {
  if (name === "style") this.style.cssText = value;
  else HTMLElement.prototype.setAttribute.call(this, name, value);
}
