// The things that all fields of a form share.
import { createContext } from "preact";
import type { Finding } from "../lib/types";

/** The object that is edited, for what is asked about its draft. */
export interface Subject {
  namespace: string;
  name: string;
  /** The version that the draft was made of; unset for a new object. */
  version?: string | undefined;
}

export interface FormContext {
  text: string;
  subject: Subject;
  readOnly: boolean;
  findings: Map<string, Finding[]>;
  change: (text: string) => void;
}

export const Editing = createContext<FormContext>({
  text: "",
  subject: { namespace: "", name: "" },
  readOnly: true,
  findings: new Map(),
  change: () => undefined,
});
