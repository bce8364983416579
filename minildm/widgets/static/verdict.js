/** What the page says of a choice, and who has been diagnosed after it; a choice of -1 is none. */
export function judge(patient, choice, answers, replies, solved) {
  if (choice < 0) return { text: "Choose what is wrong.", solved };
  const right = choice === answers[patient];
  const after = right && !solved.includes(patient) ? [...solved, patient] : solved;
  return { text: replies[patient][choice], solved: after };
}
