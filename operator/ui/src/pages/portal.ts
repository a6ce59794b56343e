// The pages for requests, which are fetched together.
export { AskPage } from "./request-ask";
export { MyAccessPage } from "./my-access";
export { RequestPage } from "./request";
export { RequestsPage } from "./requests";
