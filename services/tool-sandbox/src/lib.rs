//! tool-sandbox
