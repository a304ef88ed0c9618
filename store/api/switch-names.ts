/** Functions that can be limited or closed. Revocation is none of them. */
export const switchNames = [
  'card-issuing',
  'card-renewal',
  'phone-enrolment',
  'phone-change',
  'phone-renewal',
  'release',
] as const;
export type SwitchName = (typeof switchNames)[number];
